SUMMARY = "Skywave's card: one read-only root file system in slot A, slot B empty"
DESCRIPTION = "The squashfs that the card carries in slot A is, byte for byte, what an update bundle writes into a slot."
LICENSE = "MIT"

inherit core-image

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_INSTALL = "packagegroup-core-boot packagegroup-skywave kernel-image-image"
# What core images recommend for a terminal, and what was said to have no use by the names of systemd's packages.
BAD_RECOMMENDATIONS += "\
    ${@'' if d.getVar('SKYWAVE_DEVELOPMENT') == '1' else 'busybox-syslog systemd-serialgetty'} \
    libnss-myhostname \
    systemd-analyze \
    systemd-crypt \
    systemd-extra-utils \
    systemd-mime \
    systemd-vconsole-setup \
    udev-hwdb \
"

IMAGE_FSTYPES = "squashfs-zst wic.zst wic.bmap"
# nooelint: oelint.vars.specific,oelint.vars.mispell - image types are overrides of their own
IMAGE_TYPEDEP:wic = "squashfs-zst"
# nooelint: oelint.vars.specific - image types are overrides of their own
EXTRA_IMAGECMD:squashfs-zst = "-Xcompression-level 19 -b 256K -no-xattrs -no-exports"

WKS_FILE = "skywave.wks.in"
WKS_FILE_DEPENDS = "mtools-native dosfstools-native e2fsprogs-native parted-native"
# Firmware and boot loader, then what the owner sees of the card.
IMAGE_BOOT_FILES:append = " skywave-fat/* skywave-music/*;music/"
IMAGE_BOOT_FILES:qemuarm64 = "boot.scr"
do_image_wic[depends] += " \
    skywave-boot-script:do_deploy \
    skywave-fat:do_deploy \
    virtual/bootloader:do_deploy \
"

# A slot is written whole by an update: what does not fit must never be built.
skywave_slot_limit[doc] = "Fails where the root file system is too large for a slot"
skywave_slot_limit() {
    size=$(stat --dereference --format %s ${IMGDEPLOYDIR}/${IMAGE_NAME}.squashfs-zst)
    if [ "$size" -gt "${SKYWAVE_ROOTFS_LIMIT}" ]; then
        bbfatal "the root file system has $size bytes, more than ${SKYWAVE_ROOTFS_LIMIT}"
    fi
}
do_image_squashfs_zst[postfuncs] += "skywave_slot_limit"

# QEMU's SD cards have a power of two for a size; there is room for the data partition, as on a card.
IMAGE_CMD:wic:append:qemuarm64() {
    truncate --size 1G "$out.wic"
}

# Slots are told apart by nothing in them.
ROOTFS_POSTPROCESS_COMMAND += "skywave_describe"
skywave_describe[doc] = "Makes the mount points and the date before which no clock may be; keeps terminals silent"
skywave_describe() {
    if [ "${SKYWAVE_DEVELOPMENT}" != 1 ]; then
        # systemd's presets enable one on the screen.
        install -d ${IMAGE_ROOTFS}${sysconfdir}/systemd/system
        ln -sfn /dev/null ${IMAGE_ROOTFS}${sysconfdir}/systemd/system/getty.target
    fi
    install -d ${IMAGE_ROOTFS}/boot ${IMAGE_ROOTFS}/data
    # systemd sets a clock that is behind this file's time to it.
    : >${IMAGE_ROOTFS}${nonarch_libdir}/clock-epoch
}
