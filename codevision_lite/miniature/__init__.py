"""The paper's claims, reproduced in miniature: one RL run for each reward from one SFT adapter, for several seeds, and verdicts.

plan.py: what recipes/miniature.yaml may say. runs.py: the runs, as processes. measures.py: metrics of result rows. claims.py: effects,
intervals and verdicts. results.py: all of it as JSON and as a printed table. page.py, charts.py: the report.
"""
