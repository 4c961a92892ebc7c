SUMMARY = "What makes a board a station: units, rules, settings and their user"
DESCRIPTION = "The files of board/ in the station's repository, installed by the script that installs them in the quick image too."
SECTION = "base"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = " \
    file://LICENSE-MIT;md5=02b9efbd9df6a27e18e50d0e07f866d8 \
    file://LICENSE-APACHE;md5=a02fef6dccf840318474c108a8281b77 \
"

# nooelint: oelint.vars.fileextrapaths,oelint.vars.outofcontext - the sources are this repository, beside the layer
FILESEXTRAPATHS:prepend := "${SKYWAVE_SOURCE}:"
SRC_URI = " \
    file://LICENSE-APACHE;subdir=${BP} \
    file://LICENSE-MIT;subdir=${BP} \
    file://board;subdir=${BP} \
"

inherit features_check useradd

REQUIRED_DISTRO_FEATURES = "systemd usrmerge"

# Numbers by files/passwd and files/group.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system gpio; --system skywave"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir /data/skywave --shell /sbin/nologin --gid skywave --groups gpio skywave"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    ${S}/board/install ${D}
    if [ "${SKYWAVE_DEVELOPMENT}" = 1 ]; then
        # A getty waits for its line's device, which the shared drop-in does not announce.
        rm -r ${D}${systemd_system_unitdir}/systemd-udev-trigger.service.d
    fi
    # Where the card's partitions are mounted.
    install -d ${D}/boot ${D}/data
}

# nooelint: oelint.var.filesoverride - nothing but this is installed
FILES:${PN} = " \
    /boot \
    /data \
    ${datadir}/skywave \
    ${nonarch_libdir}/skywave \
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
    ${nonarch_libdir}/udev \
    ${sysconfdir}/systemd \
    ${sysconfdir}/udev \
    ${systemd_system_unitdir} \
"

# What the scripts call.
RDEPENDS:${PN} = " \
    busybox \
    dosfstools \
    e2fsprogs-e2fsck \
    e2fsprogs-mke2fs \
    e2fsprogs-resize2fs \
    skywave \
    skywave-card \
    util-linux-blkid \
    util-linux-mount \
    util-linux-partx \
    util-linux-sfdisk \
    util-linux-umount \
"
