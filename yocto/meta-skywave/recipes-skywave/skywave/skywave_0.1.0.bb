SUMMARY = "A radio station that broadcasts over HLS and IPFS"
DESCRIPTION = "The station's program, and the IPFS repo that a board starts with: no key is in it, a board makes its own."
SECTION = "multimedia"
# The program, the codec that it bundles, and the crates' terms as deny.toml allows them; NOTICE holds the texts.
LICENSE = "(MIT | Apache-2.0) & FDK-AAC & MPL-2.0 & BSD-2-Clause & BSD-3-Clause & CC0-1.0 & CDLA-Permissive-2.0 & ISC & Unicode-3.0 & Unlicense & Zlib"
LICENSE_FLAGS = "commercial"
LIC_FILES_CHKSUM = " \
    file://LICENSE-MIT;md5=02b9efbd9df6a27e18e50d0e07f866d8 \
    file://LICENSE-APACHE;md5=a02fef6dccf840318474c108a8281b77 \
    file://NOTICE;md5=6207f5aa361220fc950b15270640ccef \
"

CVE_PRODUCT = "skywave"

DEPENDS += "qemu-native"

# A node_modules of one's own next to the page is none of the build's business.
def web_files(d):
    folder = os.path.join(d.getVar('SKYWAVE_SOURCE'), 'web')
    return sorted(name for name in os.listdir(folder) if name != 'node_modules')

# The repository around this layer. Benches and tests are not built, but the manifest names the benches.
# nooelint: oelint.vars.fileextrapaths,oelint.vars.outofcontext - the sources are this repository, beside the layer
FILESEXTRAPATHS:prepend := "${SKYWAVE_SOURCE}:"
SRC_URI = " \
    file://Cargo.lock;subdir=${BP} \
    file://Cargo.toml;subdir=${BP} \
    file://LICENSE-APACHE;subdir=${BP} \
    file://LICENSE-MIT;subdir=${BP} \
    file://NOTICE;subdir=${BP} \
    file://README.md;subdir=${BP} \
    file://benches;subdir=${BP} \
    file://board;subdir=${BP} \
    file://build.rs;subdir=${BP} \
    file://src;subdir=${BP} \
    ${@' '.join('file://web/%s;subdir=${BP}' % name for name in web_files(d))} \
"

CARGO_LOCK_FILE = "${SKYWAVE_SOURCE}/Cargo.lock"
NPM_LOCK_FILE = "${SKYWAVE_SOURCE}/web/package-lock.json"
NPM_LOCK_DIR = "${BP}/web"

inherit cargo cargo_lock_crates npm_lock_tarballs qemu

# The smallest program: fat link-time optimisation in one unit. Its symbols go into the debug package.
BUILD_MODE = "--profile image"
BUILD_DIR = "image"
CARGO_BUILD_FLAGS:append = " --package skywave --bin skywave"
export CARGO_PROFILE_IMAGE_STRIP = "none"
export SKYWAVE_NO_NPM = "1"

# The page without hls.js is mute in Firefox and checks nothing; such a build must not become a release.
do_configure:append() {
    for file in hls.js/dist/hls.light.min.mjs @noble/ed25519/index.js @noble/hashes/sha2.js; do
        test -s ${S}/web/node_modules/$file || bbfatal "$file is not where the page expects it"
    done
}

# The very program that goes on the board makes the repo that the board starts with.
do_compile:append() {
    rm -rf ${B}/repo
    ${@qemu_wrapper_cmdline(d, '${STAGING_DIR_HOST}', ['${STAGING_LIBDIR}', '${STAGING_DIR_HOST}${base_libdir}'])} \
        ${B}/target/${CARGO_TARGET_SUBDIR}/skywave init --repo-only ${B}/repo
    if find ${B}/repo -name 'identity*' | grep -q .; then
        bbfatal "the repo that every board starts with must not hold a key"
    fi
}

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/skywave ${D}${bindir}/skywave
    install -d ${D}${datadir}/skywave/ipfs
    cp -R --no-dereference --preserve=mode,links ${B}/repo/. ${D}${datadir}/skywave/ipfs/
    install -D -m 0644 -t ${D}${docdir}/skywave ${S}/LICENSE-APACHE ${S}/LICENSE-MIT ${S}/NOTICE
}

# The NOTICE must go with the binary.
PACKAGES = "${PN}-src ${PN}-dbg ${PN}"
# nooelint: oelint.var.filesoverride - nothing but this is installed
FILES:${PN} = "${bindir} ${datadir}/skywave ${docdir}/skywave"
