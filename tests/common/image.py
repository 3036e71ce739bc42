"""image.py ROOTFS DIR OUTSIDE: makes an image of three layers in DIR: save.tar as docker save does,
layout/ and layout.tar as OCI has it, and many/ with it under two names. And evil.tar, which wants to
write to OUTSIDE."""

import hashlib, io, json, os, sys, tarfile

rootfs, to, outside = sys.argv[1:]


def layer(*entries, base=None):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        if base:
            tar.add(base, arcname=".")
        for name, mode, uid, text in entries:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.size = mode, uid, uid, len(text)
            if text.startswith("->"):
                info.type, info.linkname, info.size = tarfile.SYMTYPE, text[2:], 0
            tar.addfile(info, io.BytesIO(text.encode()) if info.size else None)
    return data.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def config(layers):
    return json.dumps({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "1000:1000",
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=it's  $HOME", "B="],
            "Entrypoint": ["sh", "-c", 'echo "$A|$B|$(pwd)|$(id -u)|$0|$1"'],
            "Cmd": ["a  b", "*"],
            "WorkingDir": "/var/data",
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest(each) for each in layers]},
    }).encode()


def save(path, layers):
    settings = config(layers)
    names = [digest(each) + "/layer.tar" for each in layers]
    manifest = [{"Config": digest(settings) + ".json", "RepoTags": ["box:latest"], "Layers": names}]
    files = [(digest(settings) + ".json", settings), *zip(names, layers)]
    with tarfile.open(path, "w") as tar:
        for name, data in [*files, ("manifest.json", json.dumps(manifest).encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def layout(path, layers, names):
    def blob(data, kind):
        with open(f"{path}/blobs/sha256/{digest(data)}", "wb") as file:
            file.write(data)
        kind = "application/vnd.oci.image." + kind
        return {"mediaType": kind, "digest": "sha256:" + digest(data), "size": len(data)}

    os.makedirs(path + "/blobs/sha256")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(config(layers), "config.v1+json"),
        "layers": [blob(each, "layer.v1.tar") for each in layers],
    }
    found = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    found = [dict(found, annotations={"org.opencontainers.image.ref.name": name}) for name in names]
    for name, data in [
        ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
        ("index.json", {"schemaVersion": 2, "manifests": found}),
    ]:
        with open(f"{path}/{name}", "w") as file:
            json.dump(data, file)


first = layer(base=rootfs)
second = layer(("bin/special", 0o4755, 0, "x"), ("var/theirs", 0o600, 1234, "x"), ("var/old", 0o644, 0, "x"))
third = layer(("var/.wh.old", 0o644, 0, ""), ("var/new", 0o644, 0, "x"), ("dev/node", 0o644, 0, "x"))
save(to + "/save.tar", [first, second, third])
layout(to + "/layout", [first, second, third], ["one"])
layout(to + "/many", [first, second, third], ["one", "two"])
with tarfile.open(to + "/layout.tar", "w") as tar:
    for name in sorted(os.listdir(to + "/layout")):
        tar.add(f"{to}/layout/{name}", arcname=name)
way_out = layer(("out", 0o777, 0, "->" + outside))
save(to + "/evil.tar", [way_out, layer(("out/written", 0o644, 0, "x")), layer(("out/.wh.precious", 0o644, 0, ""))])
