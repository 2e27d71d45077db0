"""Tables become numbers: rates, changes, intervals and the verdict. numpy and scipy only."""
