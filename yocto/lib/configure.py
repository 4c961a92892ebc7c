"""Writes a build folder's local.conf and bblayers.conf as kas would, from `kas dump --format json` on standard input.

    configure.py BUILD LAYERS REPOSITORY DOWNLOADS

The public layers are taken from LAYERS, by the name of their repository, instead of from the network.
"""

import json
import pathlib
import sys


def layer_paths(repos, layers, repository):
    """Folders of all layers that the kas files ask for."""
    paths = []
    for name, repo in repos.items():
        root = layers / name if repo.get('url') else repository
        for layer, state in (repo.get('layers') or {'.': None}).items():
            if state != 'disabled':
                paths.append((root / layer).resolve())
    for path in paths:
        if not (path / 'conf/layer.conf').is_file():
            sys.exit(f'there is no layer in {path}')
    return paths


def main():
    build, layers, repository, downloads = (pathlib.Path(argument) for argument in sys.argv[1:])
    config = json.load(sys.stdin)
    conf = build / 'conf'
    conf.mkdir(parents=True, exist_ok=True)

    paths = layer_paths(config['repos'], layers, repository)
    (conf / 'bblayers.conf').write_text(
        '\n'.join(config['bblayers_conf_header'].values())
        + '\nBBLAYERS = "' + ' '.join(str(path) for path in paths) + '"\n')

    headers = config['local_conf_header']
    (conf / 'local.conf').write_text(
        f'MACHINE = "{config["machine"]}"\nDISTRO = "{config["distro"]}"\n'
        + '\n'.join(headers[key] for key in sorted(headers))
        + f'\nDL_DIR = "{downloads}"\n'
        # A folder that many builds share would see their sockets.
        + 'BB_HASHSERVE = ""\nBB_SIGNATURE_HANDLER = "OEBasicHash"\n'
        # Parsing in more processes than there are processors only takes memory.
        + 'BB_NUMBER_PARSE_THREADS = "${@oe.utils.cpu_count()}"\n')


main()
