"""The bundled set `multitask-v1`: behaviors, benign twins and templates in our own words, in two parts that never meet."""
