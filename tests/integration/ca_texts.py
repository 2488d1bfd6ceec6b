"""CA certificates as a test wants them: their times, and who signed them."""

import time

from harness import RSA_KEY, run

CONFIG = """[ca]
default_ca = lab
[lab]
database = {folder}/{name}.index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = v3
unique_subject = no
[any]
commonName = supplied
organizationName = optional
[v3]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign,digitalSignature,keyEncipherment
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def asn1(seconds):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds))


def must(*command):
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ca_certificate(folder, name, start, end, key=None, signer=None,
                   subject="/O=Lab/CN=Lab SCEP CA", kind=RSA_KEY):
    """
    FOLDER/NAME.pem: SUBJECT with KEY.key (NAME's; a KIND is made where there is none), valid from START to
    END in Unix seconds; signed by itself, or by SIGNER (signer.pem with signer.key).
    """
    key = folder / f"{key or name}.key"
    if not key.exists():
        must("openssl", "genpkey", "-quiet", "-out", key, "-algorithm", *kind)
    config, request = folder / f"{name}.cnf", folder / f"{name}.csr"
    config.write_text(CONFIG.format(folder=folder, name=name))
    (folder / f"{name}.index").write_text("")
    must("openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request)
    by = (["-cert", folder / f"{signer}.pem", "-keyfile", folder / f"{signer}.key"] if signer
          else ["-selfsign", "-keyfile", key])
    must("openssl", "ca", "-config", config, "-batch", "-notext", "-preserveDN", *by, "-in",
         request, "-out", folder / f"{name}.pem", "-startdate", asn1(start), "-enddate", asn1(end))
    return folder / f"{name}.pem"
