"""The service: the log, the controller that folds it, and everything that users touch."""
