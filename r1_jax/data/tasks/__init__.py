"""One file per task: how its problems are made or read, and how an answer to one is judged.

Lives here: Prompt and Task (task), the tasks, and the one visible table name -> function (load).
May import: what data may.
Never touches: prompts' templates, tokens.
"""
