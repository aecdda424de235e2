"""The stage protocol, its runner, and the commands that iterate over stages."""
