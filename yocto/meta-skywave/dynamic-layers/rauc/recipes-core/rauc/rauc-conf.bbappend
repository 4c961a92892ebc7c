FILESEXTRAPATHS:prepend:skywave-os := "${THISDIR}/files:"

# The certificate by which the board knows its updates, from a folder outside of every repository.
RAUC_KEYRING_FILE:skywave-os = "ca.cert.pem"
RAUC_KEYRING_URI:skywave-os = "file://${SKYWAVE_KEYS}/ca.cert.pem"

do_install:prepend:skywave-os() {
    sed -i -e 's/@@MACHINE@@/${MACHINE}/' \
        -e 's/@@ATTEMPTS@@/${SKYWAVE_ATTEMPTS}/' \
        -e 's/@@DISK_SIGNATURE@@/${SKYWAVE_DISK_SIGNATURE}/' \
        ${UNPACKDIR}/system.conf
}

PACKAGE_ARCH:skywave-os = "${MACHINE_ARCH}"

# nooelint: oelint.task.noanonpython,oelint.vars.noncoreoverride - a recipe can only be skipped from here
python () {
    if 'skywave-os' in d.getVar('DISTROOVERRIDES').split(':') and not d.getVar('SKYWAVE_KEYS'):
        raise bb.parse.SkipRecipe('SKYWAVE_KEYS must name the folder with your keys: see docs/yocto.md')
}
