"""The sandbox and its tests: see `Tests/Sandbox/sandbox help`."""
