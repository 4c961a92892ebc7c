SUMMARY = "Finds the card that the board was started from, and mounts its FAT partition"
DESCRIPTION = "Writes /run/skywave-card for the shared units, as the initramfs of the quick image does. This image has none: the boot loader names the slot."
SECTION = "base"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"

SRC_URI = " \
    file://find-card \
    file://skywave-card.service \
"

S = "${UNPACKDIR}"

inherit systemd

SYSTEMD_SERVICE:${PN} = "skywave-card.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0755 ${S}/find-card ${D}${nonarch_libdir}/skywave/find-card
    install -D -m 0644 ${S}/skywave-card.service ${D}${systemd_system_unitdir}/skywave-card.service
}

# nooelint: oelint.var.filesoverride - nothing but this is installed
FILES:${PN} = "${nonarch_libdir}/skywave ${systemd_system_unitdir}"
RDEPENDS:${PN} = "util-linux-mount"
