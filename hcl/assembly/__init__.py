"""Objects made from a configuration: models, inputs, arguments. No other package below it sees a configuration."""
