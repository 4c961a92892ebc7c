FILESEXTRAPATHS:prepend:skywave-os := "${THISDIR}/files:"

SRC_URI:append:skywave-os = " \
    file://skywave.cfg \
    ${@bb.utils.contains('DISTRO_FEATURES', 'rauc', 'file://rauc.cfg', '', d)} \
"
SRC_URI:append:skywave-os:qemuarm64 = " file://qemuarm64.cfg"
