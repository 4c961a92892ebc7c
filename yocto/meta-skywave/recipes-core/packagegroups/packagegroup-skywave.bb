SUMMARY = "The station and what its board needs"
DESCRIPTION = "Everything of the system above a kernel and systemd. Kernel modules by the quick image's own list."

# Modules and firmware differ by machine.
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

SKYWAVE_MODULES_LIST = "${SKYWAVE_SOURCE}/board/image/modules.list"

def skywave_modules(d):
    """Packages of the modules in the list: one that is built into a kernel has no package, so all are recommendations."""
    path = d.getVar('SKYWAVE_MODULES_LIST')
    bb.parse.mark_dependency(d, path)
    with open(path, encoding='utf-8') as listing:
        names = [name for line in listing for name in line.split('#')[0].split()]
    return ' '.join('kernel-module-%s' % name.lower().replace('_', '-') for name in names)

# The radios of the boards; QEMU has none.
SKYWAVE_FIRMWARE = ""
# nooelint: oelint.vars.specific - the override of every machine in meta-raspberrypi
SKYWAVE_FIRMWARE:rpi = " \
    linux-firmware-rpidistro-bcm43430 \
    linux-firmware-rpidistro-bcm43436 \
    linux-firmware-rpidistro-bcm43436s \
    linux-firmware-rpidistro-bcm43455 \
    wireless-regdb-static \
"

# nooelint: oelint.vars.dependsordered - the two that depend on layer and machine stand first
RDEPENDS:${PN} = " \
    ${@bb.utils.contains('DISTRO_FEATURES', 'rauc', 'skywave-update', '', d)} \
    ${SKYWAVE_FIRMWARE} \
    skywave \
    skywave-board \
    skywave-card \
    systemd-networkd \
    wpa-supplicant \
"
RRECOMMENDS:${PN} = "${@skywave_modules(d)}"
