FILESEXTRAPATHS:prepend:skywave-os := "${THISDIR}/../../../../recipes-kernel/linux/files:"

SRC_URI:append:skywave-os = " \
    file://skywave.cfg \
    file://raspberrypi.cfg \
    ${@bb.utils.contains('DISTRO_FEATURES', 'rauc', 'file://rauc.cfg', '', d)} \
"
