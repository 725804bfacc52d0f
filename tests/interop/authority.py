"""Certificates for peers, made where they are used."""

import subprocess
import time


def sh(*arguments):
    subprocess.run(arguments, check=True, capture_output=True)


class Authority:
    """A root, and leaves with one SPIFFE identity, by openssl alone."""

    def __init__(self, folder):
        self.folder = folder
        sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
           "-days", "2", "-subj", "/CN=interop root", "-keyout", folder / "root.key", "-out", folder / "root.pem",
           "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def issue(self, account):
        """The paths of a certificate, of its key and of the root, for this account of the namespace `my-app`."""
        name = self.folder / account
        extensions = self.folder / f"{account}.ext"
        extensions.write_text(
            "basicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth,clientAuth\n"
            f"subjectAltName=URI:spiffe://cluster.local/ns/my-app/sa/{account}\n"
        )
        sh("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
           "-subj", "/", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        sh("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", self.folder / "root.pem", "-CAkey",
           self.folder / "root.key", "-days", "1", "-set_serial", str(time.time_ns()), "-extfile", extensions,
           "-out", f"{name}.pem")
        return f"{name}.pem", f"{name}.key", str(self.folder / "root.pem")
