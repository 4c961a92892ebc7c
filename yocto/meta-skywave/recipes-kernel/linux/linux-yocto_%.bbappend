FILESEXTRAPATHS:prepend := "${THISDIR}/files:"

SRC_URI:append:skywave = " \
    file://skywave.cfg \
    ${@bb.utils.contains('DISTRO_FEATURES', 'rauc', 'file://rauc.cfg', '', d)} \
"
SRC_URI:append:skywave:qemuarm64 = " file://qemuarm64.cfg"
