"""The command line: one file a command, registered by `serve.commands.main`."""
