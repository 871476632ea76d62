"""Word problems for a small language model: problems.jsonl to learn from, test.jsonl to be tested on, check.py to tell right from wrong."""

import json
import random
from pathlib import Path

NAMES = ["Tom", "Anna", "Ben", "Eva", "Sam", "Lily", "Max", "Nina"]
THINGS = ["apples", "books", "pens", "coins", "stamps", "shells"]
CHECK = '''import re


def verify(prompt, answer, reference):
    """Right if the first number that is written is the known one."""
    found = re.search(r"-?\\d+", answer)
    return found is not None and found[0] == reference.strip()
'''

draw = random.Random(0)
problems: dict[str, str] = {}
while len(problems) < 180:
    name, thing, has, gets = draw.choice(NAMES), draw.choice(THINGS), draw.randint(2, 9), draw.randint(2, 9)
    problems.setdefault(f"{name} has {has} {thing} and gets {gets} more. Now {name} has", f" {has + gets}")
rows = [json.dumps({"prompt": prompt, "answer": answer}) + "\n" for prompt, answer in problems.items()]
Path("problems.jsonl").write_text("".join(rows[:100]))
Path("test.jsonl").write_text("".join(rows[100:]))
Path("check.py").write_text(CHECK)
