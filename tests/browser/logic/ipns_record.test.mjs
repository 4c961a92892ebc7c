import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { keyOfName } from '../../../web/cid.js';
import { verifyEd25519 as verify } from '../../../web/hashing.js';
import { RecordError, readRecord } from '../../../web/ipns_record.js';
import { field, newKey, raw, record } from '../signed_station.mjs';

const NOW = 1_795_377_600_000;
const ROOT = raw('a tree').cid;
/** Of kubo 0.43.0, as in src/ipfs/ipns/tests.rs: with and without the fields of version 1. */
const KUBO = [
  ['k51qzi5uqu5dks93xac12gzrji4tujqp0stm7pufu2verttk0sqyiyhh1mzogg', 0n,
    '0a412f697066732f6261666b7265696268656c6b77376d627a6e7a6564743532366e7a746b6e703678686e786c677962786867637732347a6e37776572706f717a77341240471845e19dcaefa9eb1b08eaa377e1484684c0c358266ee1dbce06374cfd40d5f25110715c0d71d663e2952d9b9bd835ca3cc3ced02386acb70585a2e95cf50f1800221e323032362d31312d32345431393a34393a34352e3035303133323133385a2800308088aca3cf02424075b8f0b7f8fac4a4f81e28ee190c4344250ca04d9bf27839db67ccb15d72df00f83bd8db4b9b5b114a3aacba6ce7e87d7957886d44e92fc90fe44933ab6d4e044a9801a56354544c1b00000014f46b04006556616c756558412f697066732f6261666b7265696268656c6b77376d627a6e7a6564743532366e7a746b6e703678686e786c677962786867637732347a6e37776572706f717a77346853657175656e6365006856616c6964697479581e323032362d31312d32345431393a34393a34352e3035303133323133385a6c56616c69646974795479706500'],
  ['k51qzi5uqu5dld4vsiyz8cm3n2l0m1r7awvdov9mdcly0b2gbedih5cf163t5g', 7n,
    '424000da734b6912148b44787b399deec7e07182d67f7d552fedf74edd0afe9f78883968bb407fccff75bf6be31696c4ba820c67a5def39ece31fe96292371b9d3044a9801a56354544c1b0000000df84758006556616c756558412f697066732f6261666b7265696268656c6b77376d627a6e7a6564743532366e7a746b6e703678686e786c677962786867637732347a6e37776572706f717a77346853657175656e6365076856616c6964697479581e323032362d31312d32345431393a35303a30332e3630303431313031395a6c56616c69646974795479706500'],
];
const KUBO_VALUE = 'bafkreibhelkw7mbznzedt526nztknp6xhnxlgybxhgcw24zn7werpoqzw4';

const key = newKey();
const good = { root: ROOT, sequence: 7, eol: NOW + 1000 };
const read = (bytes, { name = key.name, now = NOW } = {}) => readRecord(name, bytes, verify, now);
const refused = (bytes, kind, options) => assert.rejects(read(bytes, options), (error) => {
  assert.ok(error instanceof RecordError, error.stack);
  assert.equal(error.kind, kind, error.message);
  return true;
});

describe('an IPNS record', () => {
  it('of kubo is read, with and without fields of version 1', async () => {
    for (const [name, sequence, hex] of KUBO) {
      const found = await read(Buffer.from(hex, 'hex'), { name });
      assert.equal(found.root.text, KUBO_VALUE);
      assert.equal(found.sequence, sequence);
      assert.ok(found.eol > NOW && found.eol < NOW + 3 * 86_400_000);
    }
  });

  it('of the station tells root, sequence and expiry', async () => {
    const found = await read(record(key, good));
    assert.equal(found.root.text, ROOT);
    assert.deepEqual([found.sequence, found.eol], [7n, NOW + 1000]);
  });

  it('is refused where any bit of it is another', async () => {
    for (const [name, , hex] of KUBO) {
      const whole = Buffer.from(hex, 'hex');
      for (let at = 0; at < whole.length; at += 1) {
        const bent = Buffer.from(whole);
        bent[at] ^= 1 << (at % 8);
        const value = await read(bent, { name }).catch((error) => error);
        // The signature of version 1 counts for nothing, and unknown fields are ignored.
        const same = value.sequence !== undefined && value.root.text === KUBO_VALUE && value.eol > NOW;
        assert.ok(value instanceof RecordError || same, `byte ${at}: ${value}`);
      }
    }
  });

  it('is refused where it is cut short, anywhere', async () => {
    const whole = record(key, good);
    for (let length = 0; length < whole.length; length += 1) {
      await assert.rejects(read(whole.subarray(0, length)), RecordError);
    }
  });

  it('of another key, or with another key in it, is forged', async () => {
    const other = newKey();
    await refused(record(other, good), 'forged');
    const embedded = field(7, Buffer.concat([Buffer.from([8, 1, 0x12, 32]), other.publicKey]));
    await refused(record(other, { ...good, entry: [embedded] }), 'forged');
    await refused(record(key, { ...good, entry: [embedded] }), 'forged');
  });

  it('says in its fields of version 1 what it says in the signed data, or is forged', async () => {
    await refused(record(key, { ...good, entry: [field(1, `/ipfs/${raw('another').cid}`)] }), 'forged');
  });

  it('that has expired is refused, to the millisecond', async () => {
    await read(record(key, good), { now: NOW + 999 });
    await refused(record(key, good), 'expired', { now: NOW + 1000 });
  });

  it('without a date, a tree or a field is of no use', async () => {
    await refused(record(key, { ...good, data: { Validity: Buffer.from('soon') } }), 'unreadable');
    await refused(record(key, { ...good, data: { ValidityType: 1 } }), 'unreadable');
    await refused(record(key, { ...good, data: { Value: Buffer.from('/ipns/example.org') } }), 'unreadable');
    await refused(record(key, { ...good, data: { TTL: Buffer.from('x') } }), 'unreadable');
  });

  it('larger than 10 KiB, or no message at all, is malformed', async () => {
    await refused(Buffer.alloc(10 * 1024 + 1), 'malformed');
    await refused(Buffer.from('<html>not found</html>'), 'malformed');
  });
});

describe('a name', () => {
  it('gives the key that stands in it', () => {
    assert.deepEqual(Buffer.from(keyOfName(key.name)), key.publicKey);
    assert.throws(() => keyOfName('k2k4r8ld1bw713uhotihqque4vuy3glg1nx9arcnu9p0hb3ohz3iffwv'));
    assert.throws(() => keyOfName('example.org'));
    assert.throws(() => keyOfName(key.name.slice(0, -1)));
  });
});
