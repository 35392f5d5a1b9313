"""What the pages of all stages are made of: style, charts as inline SVG, markup that escapes what is not markup."""
