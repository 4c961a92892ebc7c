"""Tests of board/image/owners with packages of a few bytes."""

import gzip
import importlib.machinery
import importlib.util
import json
import lzma
import pathlib
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
LOADER = importlib.machinery.SourceFileLoader('owners', str(HERE / 'owners'))
SPEC = importlib.util.spec_from_loader('owners', LOADER)
owners = importlib.util.module_from_spec(SPEC)
LOADER.exec_module(owners)

KERNEL = 'linux-image-6.12-arm64'
FILES = {
    'udev': {'usr/lib/udev/rules.d/50.rules': b'rules'},
    KERNEL: {'boot/vmlinuz-6.12-arm64': b'kernel', 'usr/lib/modules/6.12-arm64/a.ko.xz': lzma.compress(b'module')},
    'raspi-firmware': {'usr/share/doc/raspi-firmware/copyright': b'terms', 'usr/lib/raspi-firmware/start4.elf': b'firmware'},
}
PAGE = json.loads((owners.REPOSITORY / 'web/package.json').read_text())['dependencies']


class Owners(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.packages = pathlib.Path(folder.name)
        (self.packages / 'files').mkdir()
        for package, files in FILES.items():
            (self.packages / 'files' / package).write_text(''.join(f'{path}\n' for path in files))
            for path, content in files.items():
                file = self.packages / 'root' / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        self.debian = owners.Debian(self.packages)

    def owner(self, path, content):
        return owners.owner(path, content, self.debian, {'etc/issue': b'ours'})

    def test_a_file_is_its_package_s_with_the_very_bytes_alone(self):
        self.assertEqual(self.owner('usr/lib/udev/rules.d/50.rules', b'rules'), 'udev')
        self.assertIsNone(self.owner('usr/lib/udev/rules.d/50.rules', b'rules, and one more'))
        self.assertIsNone(self.owner('usr/lib/udev/rules.d/51.rules', b'other rules'))

    def test_what_is_ours_is_ours_with_the_very_bytes_alone(self):
        self.assertEqual(self.owner('etc/issue', b'ours'), 'skywave')
        self.assertIsNone(self.owner('etc/issue', b'somebody'))
        self.assertEqual(self.owner('usr/bin/skywave', b'whatever was built'), 'skywave')

    def test_what_the_build_unpacks_compresses_or_moves_is_known(self):
        self.assertEqual(self.owner('usr/lib/modules/6.12-arm64/a.ko', b'module'), KERNEL)
        self.assertIsNone(self.owner('usr/lib/modules/6.12-arm64/a.ko', b'another'))
        self.assertEqual(self.owner('usr/lib/modules/6.12-arm64/modules.dep', b'by depmod'), KERNEL)
        self.assertEqual(self.owner('A/vmlinuz', gzip.compress(b'kernel')), KERNEL)
        self.assertIsNone(self.owner('A/vmlinuz', gzip.compress(b'another')))
        self.assertEqual(self.owner('start4.elf', b'firmware'), 'raspi-firmware')
        self.assertEqual(self.owner('licences/firmware.txt', b'terms'), 'raspi-firmware')

    def test_a_file_of_nobody_is_a_mistake(self):
        folder = self.packages / 'fat'
        folder.mkdir()
        (folder / 'start4.elf').write_bytes(b'firmware')
        (folder / 'stray').write_bytes(b'stray')
        mistakes = []
        self.assertEqual(owners.examine('FAT', folder, self.debian, {}, mistakes), {'raspi-firmware'})
        self.assertEqual(mistakes, ['FAT: stray belongs to nobody'])

    def mistakes(self, *entries, found=('udev',)):
        entries += tuple((name, f'SPDXRef-npm-{name}', 'MIT') for name in PAGE)
        keys = ('name', 'SPDXID', 'licenseDeclared')
        mistakes = []
        owners.check_document({'packages': [dict(zip(keys, entry)) for entry in entries]}, set(found), mistakes)
        return mistakes

    def test_the_document_has_who_has_files_and_nobody_else_each_with_a_licence(self):
        udev = ('udev', 'SPDXRef-deb-udev-1', 'GPL-2.0-or-later')
        self.assertEqual(self.mistakes(udev, ('card', 'SPDXRef-image-card-1', 'NOASSERTION')), [])
        self.assertEqual(self.mistakes(udev, ('dash', 'SPDXRef-deb-dash-1', 'MIT')),
                         ['dash is in the document, and no file is its'])
        self.assertEqual(self.mistakes(('udev', 'SPDXRef-deb-udev-1', 'NOASSERTION')), ['udev has no licence'])
        self.assertEqual(self.mistakes(), ['udev has files, and is not in the document'])

    def test_what_the_page_takes_is_in_the_document(self):
        mistakes = []
        owners.check_document({'packages': []}, set(), mistakes)
        self.assertEqual(mistakes, [f'{name} is part of the page, and not in the document' for name in PAGE])


if __name__ == '__main__':
    unittest.main()
