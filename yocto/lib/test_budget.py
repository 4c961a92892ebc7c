"""Tests of yocto/budget with a history in the shape that buildhistory writes: size, KiB and package by tabs, heaviest first."""

import pathlib
import re
import subprocess
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GROUPS = [line.split() for line in (REPOSITORY / 'yocto/budget.list').read_text().splitlines() if line and line[0] != '#']


class Budget(unittest.TestCase):
    def budget(self, sizes, machine='raspberrypi4-64'):
        with tempfile.TemporaryDirectory() as build:
            # BitBake's MACHINE_ARCH has no hyphen.
            history = pathlib.Path(build, 'buildhistory/images', machine.replace('-', '_'), 'glibc/skywave-image')
            history.mkdir(parents=True)
            lines = (f'{size}\tKiB\t{package}\n' for package, size in sizes)
            (history / 'installed-package-sizes.txt').write_text(''.join(lines))
            return subprocess.run([REPOSITORY / 'yocto/budget', build, machine], capture_output=True, text=True)

    def test_adds_up_by_group_and_names_every_package(self):
        result = self.budget([('skywave', 15000), ('systemd', 9000), ('libsystemd0', 900)])
        self.assertEqual(result.returncode, 0, result.stderr)
        for line in ('| program | 15000 | 16384 |', '| systemd | 9900 | 16384 |', '| all, installed | 24900 |  |',
                     '| skywave | program | 15000 |', '| libsystemd0 | systemd | 900 |'):
            self.assertIn(line + '\n', result.stdout)

    def test_fails_over_budget(self):
        result = self.budget([('skywave', 16385)])
        self.assertEqual((result.returncode, result.stderr), (1, 'over budget: program\n'))

    def test_fails_where_a_package_is_in_no_group_even_an_empty_one(self):
        result = self.budget([('skywave', 1), ('perl', 0)])
        self.assertEqual((result.returncode, result.stderr), (1, 'in no group: perl\n'))

    def test_fails_without_a_history(self):
        with tempfile.TemporaryDirectory() as build:
            pathlib.Path(build, 'buildhistory/images').mkdir(parents=True)
            self.assertEqual(subprocess.run([REPOSITORY / 'yocto/budget', build], capture_output=True).returncode, 1)


class Table(unittest.TestCase):
    def test_the_page_has_the_groups_and_budgets_of_the_list(self):
        page = (REPOSITORY / 'docs/yocto.md').read_text()
        table = page[page.index('| group | KiB | budget |'):].split('\n\n')[0]
        self.assertEqual(re.findall(r'^\| (\w+) \|[^|]*\| (\d+) \|$', table, re.MULTILINE),
                         [(group[0], group[1]) for group in GROUPS])

    def test_each_package_counts_once(self):
        # A pattern behind one that takes all of its packages would never be reached.
        for package, group in {'libnl-3-200': 'wifi', 'wpa-supplicant-cli': 'wifi', 'libz1': 'tools', 'libcap': 'tools',
                               'kernel-image-image-6.18.1': 'kernel', 'kernel-module-brcmfmac': 'modules',
                               'kernel-6.18.1': 'kernel', 'libcrypto3': 'crypto', 'libcrypt2': 'libc',
                               'skywave-board': 'board', 'rauc-mark-good': 'updates'}.items():
            first = next((name for name, _, pattern in GROUPS if re.fullmatch(pattern, package)), None)
            self.assertEqual(first, group, package)


if __name__ == '__main__':
    unittest.main()
