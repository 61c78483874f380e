"""The one-machine stack: embedded servers, sandbox mail and payments, the supervisor. Imports no app."""
