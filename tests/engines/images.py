"""Images for the engines, made of a root file system: no registry is needed."""

import hashlib
import io
import json
import tarfile


def layer(rootfs):
    """The directory as a tar archive, with two users that a test can name."""
    out = io.BytesIO()
    passwd = "root:x:0:0::/root:/bin/sh\noak:x:1234:2345::/home/oak:/bin/sh\n"
    group = "root:x:0:\noak:x:2345:\nwood:x:3456:oak\n"
    own = {"etc/passwd": passwd, "etc/group": group}
    with tarfile.open(fileobj=out, mode="w") as tar:
        add_all(tar, rootfs, set(own))
        for name, text in own.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def add_all(tar, rootfs, without):
    def of_root(entry):
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return None if entry.name in without else entry

    for name in ("bin", "sbin", "usr", "etc", "lib", "tmp", "root", "dev", "proc", "sys", "var"):
        try:
            tar.add(f"{rootfs}/{name}", name, filter=of_root)
        except FileNotFoundError:
            pass


def oci_archive(path, data, images):
    """An archive in the OCI image layout. images: a reference, and what its config holds."""
    blobs = {}

    def blob(kind, content):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest,
                "size": len(content)}

    content = blob("layer.v1.tar", data)
    manifests = []
    for reference, config in images.items():
        described = {"architecture": "amd64", "os": "linux", "config": config,
                     "rootfs": {"type": "layers", "diff_ids": [content["digest"]]}}
        manifest = {"schemaVersion": 2, "config": blob("config.v1+json", described),
                    "layers": [content]}
        entry = blob("manifest.v1+json", manifest)
        entry["annotations"] = {"io.containerd.image.name": reference}
        manifests.append(entry)
    files = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
             "index.json": json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()}
    for digest, content in blobs.items():
        files["blobs/sha256/" + digest.split(":")[1]] = content
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
