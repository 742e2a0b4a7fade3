"""The subcommands, one short function each; everything heavy is imported inside them."""
