"""Unpacks the wanted files of a wheel.

usage: unpack.py WHEEL FOLDER [PATTERN TARGET]...

A member whose whole name matches PATTERN (a regular expression) is written to FOLDER/TARGET, where TARGET may name the
pattern's groups. Prints the number of files written; zipfile checks each one's CRC.
"""
import os
import re
import shutil
import sys
import zipfile

wheel, folder, *rest = sys.argv[1:]
rules = [(re.compile(pattern), target) for pattern, target in zip(rest[::2], rest[1::2])]
written = 0
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        matches = ((pattern.fullmatch(member.filename), target) for pattern, target in rules)
        found = next(((match, target) for match, target in matches if match), None)
        if found is None or member.is_dir():
            continue
        match, target = found
        path = os.path.join(folder, match.expand(target))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(member) as source, open(path, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
        written += 1
print(written)
