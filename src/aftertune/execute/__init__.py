"""The work of a study is shared by several processes."""
