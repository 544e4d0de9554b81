"""Compares two JUnit reports of one suite: compare_junit.py DIRECT THROUGH

Lists every test that ended differently. Exit status 1 where one that passed in
the first did not pass in the second. Standard library only.
"""

import sys
import xml.etree.ElementTree

MESSAGE_CHARACTERS = 200


def outcomes(path):
    """Test name to (passed | failed | skipped, message)."""
    found = {}
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        outcome = ("passed", "")
        for kind, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            element = case.find(kind)
            if element is not None:
                message = (element.get("message") or "").splitlines() or [""]
                outcome = (word, message[0][:MESSAGE_CHARACTERS])
                break
        # An error while cleaning up is a second case of the same name.
        if found.get(name, ("",))[0] != "failed":
            found[name] = outcome
    return found


def main():
    direct, through = map(outcomes, sys.argv[1:3])
    if not direct:
        print("no test ran")
        return 1
    worse = 0
    absent = ("absent", "")
    for name in sorted(direct.keys() | through.keys()):
        before, after = direct.get(name, absent), through.get(name, absent)
        if before[0] == after[0]:
            continue
        worse += before[0] == "passed"
        print(f"   {before[0]} -> {after[0]}: {name}: {after[1] or before[1]}")
    both = [name for name in direct if direct[name][0] == through.get(name, absent)[0]]
    counts = {word: sum(direct[name][0] == word for name in both) for word in ("passed", "failed", "skipped")}
    print(f"   the same both ways: {counts['passed']} passed, "
          f"{counts['failed']} failed, {counts['skipped']} skipped")
    print(f"{counts['passed']} passed, {worse} failed")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
