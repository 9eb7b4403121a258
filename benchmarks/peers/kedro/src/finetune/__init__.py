"""The package that Kedro asks for."""
