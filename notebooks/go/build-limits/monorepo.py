"""Write a repository of many Go modules that one program imports: monorepo.py NUMBER DIRECTORY

DIRECTORY/main is the program; DIRECTORY/m000 and so on are the modules, found through `replace`.
"""

import sys
from pathlib import Path

number, directory = int(sys.argv[1]), Path(sys.argv[2])
names = [f"m{i:03d}" for i in range(number)]
for name in names:
    module = directory / name
    module.mkdir(parents=True)
    (module / "go.mod").write_text(f"module example.com/{name}\n\ngo 1.21\n")
    (module / f"{name}.go").write_text(
        f"package {name}\n\n// Next counts.\nfunc Next(n int) int {{ return n + 1 }}\n"
    )


def lines(text: str) -> str:
    return "".join("\t" + text.replace("NAME", name) + "\n" for name in names)


main = directory / "main"
main.mkdir()
(main / "go.mod").write_text(
    "module example.com/main\n\ngo 1.21\n\n"
    f"require (\n{lines('example.com/NAME v0.0.0')})\n\n"
    f"replace (\n{lines('example.com/NAME => ../NAME')})\n"
)
(main / "main.go").write_text(
    f"package main\n\nimport (\n{lines(chr(34) + 'example.com/NAME' + chr(34))})\n\n"
    f"func main() {{\n\tn := 0\n{lines('n = NAME.Next(n)')}\tprintln(n)\n}}\n"
)
