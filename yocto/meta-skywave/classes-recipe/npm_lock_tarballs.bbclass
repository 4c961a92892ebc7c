# Fetches the packages that a package-lock.json names, by the hashes that stand in it, and unpacks them where npm would.
# BitBake's own npm fetcher is switched off upstream; nothing here runs npm or a script of a package.
#
# NPM_LOCK_FILE: absolute path of the lock file, of version 2 or 3. NPM_LOCK_DIR: where its node_modules go, below
# UNPACKDIR.

NPM_LOCK_FILE ?= ""
NPM_LOCK_DIR ?= "${BP}"
NPM_LOCK_REGISTRY ?= "https://registry.npmjs.org"

def npm_lock_tarballs(path, registry, folder):
    """SRC_URI entries of the packages that a build needs (no development dependencies)."""
    import base64
    import json

    uris = []
    with open(path, encoding='utf-8') as lock:
        packages = json.load(lock)['packages']
    for location, package in sorted(packages.items()):
        if not location or package.get('dev') or package.get('link'):
            continue
        name = location.split('node_modules/')[-1]
        algorithm, _, digest = package['integrity'].partition('-')
        if algorithm not in ('sha256', 'sha512'):
            raise ValueError('%s has no strong hash' % name)
        file = '%s-%s.tgz' % (name.split('/')[-1], package['version'])
        url = package.get('resolved') or '%s/%s/-/%s' % (registry, name, file)
        uris.append('%s;downloadfilename=npm-%s;name=npm-%s;%ssum=%s;subdir=%s/%s;striplevel=1'
                    % (url, file, name.replace('/', '-'), algorithm,
                       base64.b64decode(digest).hex(), folder, location))
    return uris

# nooelint: oelint.task.noanonpython - SRC_URI comes from a file, once per parse
python () {
    path = d.getVar('NPM_LOCK_FILE')
    bb.parse.mark_dependency(d, path)
    try:
        uris = npm_lock_tarballs(path, d.getVar('NPM_LOCK_REGISTRY'), d.getVar('NPM_LOCK_DIR'))
    except (OSError, ValueError, KeyError) as error:
        bb.fatal('%s: %s' % (path, error))
    d.appendVar('SRC_URI', ' ' + ' '.join(uris))
}
