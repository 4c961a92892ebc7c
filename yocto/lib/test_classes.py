"""Tests of what the layer's classes do with lock files. They need no BitBake: the functions are plain Python."""

import pathlib
import re
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CLASSES = REPOSITORY / 'yocto/meta-skywave/classes-recipe'
REGISTRY = 'registry+https://github.com/rust-lang/crates.io-index'


def function(name):
    """A function of the class of its name, out of the class file."""
    files = {'cargo_lock_crates': 'cargo_lock_crates.bbclass', 'npm_lock_tarballs': 'npm_lock_tarballs.bbclass'}
    text = (CLASSES / files[name]).read_text(encoding='utf-8')
    source = re.search(rf'^def {name}\(.*?(?=^\S(?!ef))', text, re.MULTILINE | re.DOTALL)[0]
    scope = {}
    exec(source, scope)  # our own file
    return scope[name]


class Crates(unittest.TestCase):
    def uris(self, text):
        with tempfile.NamedTemporaryFile('w', suffix='.lock') as lock:
            lock.write('version = 4\n\n' + text)
            lock.flush()
            return function('cargo_lock_crates')(lock.name, REGISTRY)

    def test_names_every_crate_of_the_repository_once(self):
        lock = REPOSITORY / 'Cargo.lock'
        uris = function('cargo_lock_crates')(lock, REGISTRY)
        self.assertEqual(len(uris), lock.read_text().count('\nchecksum = '))
        self.assertEqual(len(set(uris)), len(uris))

    def test_gives_the_hash_of_the_lock_file(self):
        uris = self.uris(f'[[package]]\nname = "a-b"\nversion = "1.0.0+c"\nsource = "{REGISTRY}"\nchecksum = "12ab"\n')
        self.assertEqual(uris, ['crate://crates.io/a-b/1.0.0+c;name=a-b-1.0.0+c;sha256sum=12ab'])

    def test_leaves_members_of_the_workspace_out(self):
        other = f'[[package]]\nname = "b"\nversion = "1.0.0"\nsource = "{REGISTRY}"\nchecksum = "12"\n'
        self.assertEqual(len(self.uris('[[package]]\nname = "a"\nversion = "1.0.0"\n\n' + other)), 1)

    def test_refuses_what_no_mirror_has(self):
        with self.assertRaisesRegex(ValueError, 'git'):
            self.uris('[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "git+https://example.org/a#1"\n')

    def test_refuses_a_crate_without_a_hash(self):
        with self.assertRaisesRegex(ValueError, 'checksum'):
            self.uris(f'[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "{REGISTRY}"\n')

    def test_refuses_a_lock_file_without_crates(self):
        with self.assertRaises(ValueError):
            self.uris('')


class Tarballs(unittest.TestCase):
    def uris(self, text):
        with tempfile.NamedTemporaryFile('w', suffix='.json') as lock:
            lock.write(text)
            lock.flush()
            return function('npm_lock_tarballs')(lock.name, 'https://registry.example', 'x-1/web')

    def test_names_what_the_page_takes_from_npm(self):
        lock = REPOSITORY / 'web/package-lock.json'
        uris = function('npm_lock_tarballs')(lock, 'https://registry.example', 'x-1/web')
        packages = [('@noble/ed25519', 'ed25519'), ('@noble/hashes', 'hashes'), ('hls.js', 'hls.js')]
        self.assertEqual(len(uris), len(packages))
        for uri, (name, file) in zip(uris, packages):
            self.assertRegex(uri, rf'^https://registry\.example/{name}/-/{file}-[0-9.]+\.tgz;.*;sha512sum=[0-9a-f]{{128}};'
                                  rf'subdir=x-1/web/node_modules/{name};striplevel=1$')

    def test_leaves_development_out(self):
        package = '{"version": "1.0.0", "integrity": "sha512-AAAA", "dev": true}'
        self.assertEqual(self.uris('{"packages": {"": {}, "node_modules/a": %s}}' % package), [])

    def test_refuses_a_weak_hash(self):
        package = '{"version": "1.0.0", "integrity": "sha1-AAAA"}'
        with self.assertRaisesRegex(ValueError, 'hash'):
            self.uris('{"packages": {"node_modules/a": %s}}' % package)


if __name__ == '__main__':
    unittest.main()
