SUMMARY = "Installs signed updates from a USB stick"
DESCRIPTION = "An update that does not get the station on air is taken back: its attempts run out, and U-Boot starts the old slot."
SECTION = "base"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"

SRC_URI = " \
    file://deadline.service \
    file://deadline.timer \
    file://mark-good.conf \
    file://stick.conf \
    file://update \
    file://update@.service \
"

S = "${UNPACKDIR}"

inherit systemd

SYSTEMD_SERVICE:${PN} = "skywave-update-deadline.timer"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0755 ${S}/update ${D}${nonarch_libdir}/skywave/update
    install -D -m 0644 ${S}/update@.service ${D}${systemd_system_unitdir}/skywave-update@.service
    install -D -m 0644 ${S}/deadline.service ${D}${systemd_system_unitdir}/skywave-update-deadline.service
    install -D -m 0644 ${S}/deadline.timer ${D}${systemd_system_unitdir}/skywave-update-deadline.timer
    install -D -m 0644 ${S}/stick.conf ${D}${systemd_system_unitdir}/skywave-stick@.service.d/update.conf
    install -D -m 0644 ${S}/mark-good.conf ${D}${systemd_system_unitdir}/rauc-mark-good.service.d/on-air.conf
    # Written at each start, for the card that it is.
    install -d ${D}${sysconfdir}
    ln -s /run/skywave-fw_env.config ${D}${sysconfdir}/fw_env.config
}

# nooelint: oelint.var.filesoverride - nothing but this is installed
FILES:${PN} = "${nonarch_libdir}/skywave ${systemd_system_unitdir} ${sysconfdir}/fw_env.config"
RDEPENDS:${PN} = "libubootenv-bin rauc rauc-conf rauc-mark-good skywave-board skywave-card"
