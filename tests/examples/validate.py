"""Validate an example with the vendor's package, or with the operator's schema; print version and problems as JSON.

Started by tests/test_examples.py: `validate.py databricks FILE`, `validate.py emr FILE`, `validate.py kubernetes FILE CRD_FILE`, with
the Python of an environment that has the package.
"""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any


def databricks(file: str) -> dict[str, Any]:
    """The SDK's JobSettings takes the document and gives it back unchanged, and each value has the type of its field."""
    from databricks.sdk.service.jobs import JobSettings

    document = json.loads(Path(file).read_text(encoding="utf-8"))
    settings = JobSettings.from_dict(document)  # drops unknown fields and unknown values of enumerations
    problems = [] if settings.as_dict() == document else [f"the SDK gives back {settings.as_dict()}"]
    return {"version": version("databricks-sdk"), "problems": [*problems, *wrong_types(settings, "job")]}


def wrong_types(record: Any, where: str) -> Iterator[str]:
    """Fields of a dataclass, at any depth, whose value is not of the annotated type."""
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value, hint = getattr(record, field.name), hints[field.name]
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        kind = parts[0] if typing.get_origin(hint) is typing.Union else hint
        name = f"{where}.{field.name}"
        if value is None:
            if type(None) not in typing.get_args(hint):
                yield f"{name}: is required"
        elif not isinstance(value, typing.get_origin(kind) or kind) or (kind is int and isinstance(value, bool)):
            yield f"{name}: {value!r} is no {kind}"
        else:
            items = value if isinstance(value, list) else [value]
            yield from (line for item in items if dataclasses.is_dataclass(item) for line in wrong_types(item, name))


class FakeEmr(BaseHTTPRequestHandler):
    """Stores the body of each request, and answers that a step was added."""

    calls: typing.ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        """Answer one call of the API."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.calls.append((self.headers["X-Amz-Target"], body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"StepIds": ["s-1"]}).encode())

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def emr(file: str) -> dict[str, Any]:
    """`aws emr add-steps` takes the file; its request, to a server of this process, is valid by botocore's service model."""
    import botocore
    import botocore.session
    from botocore.validate import ParamValidator

    server = HTTPServer(("127.0.0.1", 0), FakeEmr)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    call = ["emr", "add-steps", "--cluster-id", "j-1", "--steps", f"file://{file}"]
    options = ["--region", "us-east-1", "--endpoint-url", f"http://127.0.0.1:{server.server_port}"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    done = subprocess.run(
        [sys.executable, "-m", "awscli", *options, *call], capture_output=True, text=True, check=False, env=environment
    )
    server.shutdown()
    problems = [done.stderr.strip()] if done.returncode else []
    requests = [body for target, body in FakeEmr.calls if target == "ElasticMapReduce.AddJobFlowSteps"]
    if len(requests) != 1:
        problems.append(f"{len(requests)} requests to add steps")
    request = requests[0] if requests else {"JobFlowId": "j-1", "Steps": []}
    model = botocore.session.get_session().get_service_model("emr").operation_model("AddJobFlowSteps").input_shape
    report = ParamValidator().validate(request, model)
    problems += [report.generate_report()] if report.has_errors() else []
    step = model.members["Steps"].member.members
    allowed = step["ActionOnFailure"].enum
    problems += [f"ActionOnFailure: {allowed}" for item in request["Steps"] if item["ActionOnFailure"] not in allowed]
    versions = f"awscli {version('awscli')}, botocore {botocore.__version__}"
    return {"version": versions, "problems": problems, "steps": request["Steps"]}


def kubernetes(file: str, crd_file: str) -> dict[str, Any]:
    """The operator's CRD takes the manifest, without unknown fields."""
    import jsonschema
    import yaml

    manifest = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    crds = yaml.safe_load_all(Path(crd_file).read_text(encoding="utf-8"))
    crd = next(item for item in crds if item and item["spec"]["names"]["kind"] == manifest["kind"])
    group, _, api_version = manifest["apiVersion"].partition("/")
    schema = next(v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == api_version)
    validator = jsonschema.Draft202012Validator(strict(schema))
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    problems = errors if group == crd["spec"]["group"] else [*errors, f"group {group}"]
    return {"version": f"jsonschema {version('jsonschema')}", "problems": problems}


def strict(schema: Any) -> Any:
    """Refuse fields that a schema does not name, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(value) for name, value in schema.items()}
    is_object = closed.get("type") == "object" and isinstance(closed.get("properties"), dict)
    if is_object and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


if __name__ == "__main__":
    kind, *files = sys.argv[1:]
    print(json.dumps({"databricks": databricks, "emr": emr, "kubernetes": kubernetes}[kind](*files)))
