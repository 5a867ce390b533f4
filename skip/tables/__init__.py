"""The paper's tables and figures: what is measured, with which error, and whether it shows what the paper says."""
