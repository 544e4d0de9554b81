//! Where keys are.

use super::super::Table;
use super::check_keys;

#[test]
fn keys_are_found_where_the_datastore_finds_them() {
    check_keys(
        &Table::built_in(),
        &[
            ("GET k", &[1]),
            ("PING", &[]),
            ("DEL a b c", &[1, 2, 3]),
            ("MSET a 1 b 2", &[1, 3]),
            ("RENAME a b", &[1, 2]),
            ("BITOP NOT d s", &[2, 3]),
            ("BLPOP a b 0", &[1, 2]),
            ("OBJECT FREQ k", &[2]),
            ("XGROUP CREATE k g $", &[2]),
            ("PUBLISH c m", &[]),
            ("SSUBSCRIBE c", &[]),
            ("FLUSHALL", &[]),
            ("SWAPDB 0 1", &[]),
            ("EVAL s 2 a b c", &[3, 4]),
            ("EVAL s 0 a", &[]),
            ("EVAL s 3 a b", &[]),
            ("EVAL s -1 a b", &[]),
            ("EVAL s 99999999999999999999 a", &[]),
            ("EVAL s 9223372036854775807 a", &[]),
            ("FCALL f 1 a b", &[3]),
            ("LMPOP 2 a b LEFT", &[2, 3]),
            ("BZMPOP 0 2 a b MIN", &[3, 4]),
            ("SINTERCARD 2 a b LIMIT 1", &[2, 3]),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", &[1, 3, 4]),
            ("MSETEX 2 a 1 b 2 EX 5", &[2, 4]),
            ("MSETEX 3 a 1 b 2", &[]),
            ("SORT k", &[1]),
            ("SORT k BY store GET store STORE d", &[1, 7]),
            ("SORT k STORE a STORE b", &[1, 5]),
            ("SORT k STORE", &[1]),
            ("GEORADIUS k 1 2 3 m STORE a STOREDIST b", &[1, 7, 9]),
            ("GEORADIUSBYMEMBER k m 3 m STORE d", &[1, 6]),
            ("MIGRATE h 1 k 0 9", &[3]),
            ("MIGRATE h 1 '' 0 9 COPY AUTH keys KEYS a b", &[10, 11]),
            ("MIGRATE h 1 k 0 9 KEYS a", &[]),
            ("XREAD STREAMS a b 0 0", &[2, 3]),
            ("XREAD COUNT 1 BLOCK 0 STREAMS a 0", &[6]),
            ("XREAD STREAMS a b 0", &[]),
            ("XREADGROUP GROUP streams c NOACK STREAMS streams >", &[6]),
            ("XREADGROUP GROUP g c CLAIM 5 STREAMS a >", &[7]),
            ("CMS.MERGE d 2 a b WEIGHTS 1 2", &[1, 3, 4]),
            ("JSON.MSET a $ 1 b $ 2", &[1, 4]),
            ("JSON.MGET a b $", &[1, 2]),
            ("WATCH a b", &[1, 2]),
        ],
    );
}
