# Fetches the crates that a Cargo.lock names, by the hashes that stand in it: nobody keeps a list, and a crate whose bytes
# are not those of the lock file stops the build.
#
# CARGO_LOCK_FILE: absolute path of the lock file. It is read whenever the recipe is parsed, and a change of it has the
# recipe parsed again.

CARGO_LOCK_FILE ?= ""
CARGO_LOCK_REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"

def cargo_lock_crates(path, registry):
    """SRC_URI entries of all packages in a lock file, one a line and a field as cargo writes it."""
    import re

    uris = []
    with open(path, encoding='utf-8') as lock:
        packages = lock.read().split('[[package]]\n')[1:]
    for package in packages:
        fields = dict(re.findall(r'^(name|version|source|checksum) = "([^"]*)"$', package, re.MULTILINE))
        if 'source' not in fields:
            continue  # a member of the workspace, next to the lock file
        name = '%s-%s' % (fields['name'], fields['version'])
        if fields['source'] != registry:
            raise ValueError('%s comes from %s; only crates.io can be mirrored' % (name, fields['source']))
        if 'checksum' not in fields:
            raise ValueError('%s has no checksum' % name)
        uris.append('crate://crates.io/%s/%s;name=%s;sha256sum=%s'
                    % (fields['name'], fields['version'], name, fields['checksum']))
    if not uris:
        raise ValueError('names no crate')
    return uris

# nooelint: oelint.task.noanonpython - SRC_URI comes from a file, once per parse
python () {
    path = d.getVar('CARGO_LOCK_FILE')
    bb.parse.mark_dependency(d, path)
    try:
        uris = cargo_lock_crates(path, d.getVar('CARGO_LOCK_REGISTRY'))
    except (OSError, ValueError) as error:
        bb.fatal('%s: %s' % (path, error))
    d.appendVar('SRC_URI', ' ' + ' '.join(uris))
}
