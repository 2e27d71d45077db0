"""Models behind HTTP: any server that speaks OpenAI's chat completions, asked fast and never silently wrong."""
