# Only Skywave's own distro gets this boot loader: the layer alone changes nobody's.
FILESEXTRAPATHS:prepend:skywave-os := "${THISDIR}/files:"

SRC_URI:append:skywave-os = " \
    file://skywave.cfg \
    ${@'file://dev.cfg' if d.getVar('SKYWAVE_DEVELOPMENT') == '1' else ''} \
"
SRC_URI:append:skywave-os:qemuarm64 = " file://qemuarm64.cfg"
