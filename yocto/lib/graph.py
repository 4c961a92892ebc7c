"""Judges what an image would build, from `bitbake -g`: graph.py MACHINE PN-BUILDLIST TASK-DEPENDS."""

import re
import sys

# Recipes without which the card would lack something.
NEEDED = {
    'skywave', 'skywave-board', 'skywave-boot-script', 'skywave-bundle', 'skywave-card', 'skywave-fat', 'skywave-image',
    'skywave-update', 'dosfstools', 'e2fsprogs', 'libubootenv', 'rauc', 'rauc-conf', 'systemd', 'u-boot', 'util-linux',
    'wpa-supplicant',
}
# Recipes for the board, not for the build machine, that the distro opts out of: one of them in the graph means that
# something pulls it in again. D-Bus is not among them: wpa_supplicant and RAUC want it while they are built.
UNWANTED = {
    'alsa-lib', 'avahi', 'bluez5', 'dropbear', 'glibc-locale', 'mesa', 'openssh', 'polkit', 'psplash', 'pulseaudio',
    'sysvinit', 'wayland',
}


def main():
    machine, buildlist, depends = sys.argv[1:]
    with open(buildlist, encoding='utf-8') as lines:
        recipes = set(lines.read().split())
    with open(depends, encoding='utf-8') as lines:
        edges = [line for line in lines if ' -> ' in line]

    missing, extra = NEEDED - recipes, UNWANTED & recipes
    native = {name for name in recipes if re.search(r'-(native|cross-.*|crosssdk-.*)$', name)}
    print(f'{machine}: {len(recipes)} recipes, {len(recipes - native)} of them for the board, {len(edges)} dependencies of tasks')
    if missing:
        print('  missing:', *sorted(missing))
    if extra:
        print('  opted out and there all the same:', *sorted(extra))
        for name in sorted(extra):
            wanted_by = {edge.split('"')[1].split('.')[0] for edge in edges if f'-> "{name}.' in edge}
            print(f'    {name} is wanted by', *sorted(wanted_by - {name})[:6])
    sys.exit(1 if missing or extra else 0)


main()
