SUMMARY = "What an owner finds on the card's FAT partition"
DESCRIPTION = "Settings, Wi-Fi and a page to read: deployed for wic, not installed in the root file system."
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = " \
    file://LICENSE-MIT;md5=02b9efbd9df6a27e18e50d0e07f866d8 \
    file://LICENSE-APACHE;md5=a02fef6dccf840318474c108a8281b77 \
"

INHIBIT_DEFAULT_DEPS = "1"

# nooelint: oelint.vars.fileextrapaths,oelint.vars.outofcontext - the sources are this repository, beside the layer
FILESEXTRAPATHS:prepend := "${SKYWAVE_SOURCE}:"
SRC_URI = " \
    file://LICENSE-APACHE;subdir=${BP} \
    file://LICENSE-MIT;subdir=${BP} \
    file://board;subdir=${BP} \
    file://music.txt \
"

inherit deploy nopackages

do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"

# The image takes over all of skywave-fat, and of skywave-music into the folder music; wic makes no empty folder.
do_deploy() {
    install -d ${DEPLOYDIR}/skywave-fat
    install -m 0644 ${S}/board/fat/*.txt ${S}/board/fat/*.toml ${DEPLOYDIR}/skywave-fat/
    install -D -m 0644 ${UNPACKDIR}/music.txt ${DEPLOYDIR}/skywave-music/README.txt
}
addtask deploy after do_unpack before do_build
