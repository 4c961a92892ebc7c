# nooelint: oelint.file.underscores,oelint.var.mandatoryvar.SRC_URI - an image by another name: no version and no source
SUMMARY = "Signed update: the root file system of skywave-image, kernel included"
DESCRIPTION = "Put on a USB stick as skywave-<anything>.raucb, it is installed into the slot that is not running."
LICENSE = "MIT"

inherit bundle

RAUC_BUNDLE_COMPATIBLE = "skywave-${MACHINE}"
RAUC_BUNDLE_VERSION = "${DISTRO_VERSION}"
RAUC_BUNDLE_FORMAT = "verity"
RAUC_BUNDLE_SLOTS = "rootfs"
RAUC_SLOT_rootfs = "skywave-image"
RAUC_SLOT_rootfs[fstype] = "squashfs-zst"
RAUC_SLOT_rootfs[rename] = "rootfs.img"

RAUC_KEY_FILE = "${SKYWAVE_KEYS}/bundle.key.pem"
RAUC_CERT_FILE = "${SKYWAVE_KEYS}/bundle.cert.pem"

# nooelint: oelint.task.noanonpython - a recipe can only be skipped from here
python () {
    if not d.getVar('SKYWAVE_KEYS'):
        raise bb.parse.SkipRecipe('SKYWAVE_KEYS must name the folder with your keys: see docs/yocto.md')
}
