SUMMARY = "U-Boot script that starts slot A or B"
DESCRIPTION = "RAUC decides and counts by U-Boot's variables; no count ends in a stop."
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"

DEPENDS = "u-boot-mkimage-native"
PROVIDES += "u-boot-default-script"
INHIBIT_DEFAULT_DEPS = "1"

SRC_URI = "file://boot.cmd.in"

S = "${UNPACKDIR}"
B = "${WORKDIR}/build"

inherit kernel-arch deploy nopackages

# A kernel that panics is reset, and so its attempt counts.
SKYWAVE_CMDLINE = "rootfstype=squashfs ro rootwait panic=10 ${@'' if d.getVar('SKYWAVE_DEVELOPMENT') == '1' else 'quiet'}"
SKYWAVE_CMDLINE:append:qemuarm64 = " console=ttyAMA0,115200"
KERNEL_BOOTCMD ?= "booti"

do_configure[noexec] = "1"

do_compile() {
    sed -e 's/@@ATTEMPTS@@/${SKYWAVE_ATTEMPTS}/g' \
        -e 's/@@CMDLINE@@/${SKYWAVE_CMDLINE}/' \
        -e 's/@@KERNEL_BOOTCMD@@/${KERNEL_BOOTCMD}/' \
        -e 's/@@KERNEL_IMAGETYPE@@/${KERNEL_IMAGETYPE}/' \
        ${S}/boot.cmd.in >${B}/boot.cmd
    ! grep -q '@@' ${B}/boot.cmd || bbfatal "boot.cmd.in has a placeholder that the recipe does not know"
    mkimage -A ${UBOOT_ARCH} -T script -C none -n "Skywave" -d ${B}/boot.cmd ${B}/boot.scr
}

do_install[noexec] = "1"

do_deploy() {
    install -D -m 0644 ${B}/boot.scr ${DEPLOYDIR}/boot.scr
}
addtask deploy after do_compile before do_build

PACKAGE_ARCH = "${MACHINE_ARCH}"
