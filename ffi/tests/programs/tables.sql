-- Tables, indexes, joins, a transaction rolled back, full-text search, a vacuum and an integrity check.
PRAGMA cache_size = -20000;
CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, town INTEGER, score REAL);
CREATE TABLE town(id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
INSERT INTO town SELECT i, 'town ' || (i * 7919 % 1009) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO person SELECT i, 'person ' || (i * 104729 % 99991), i % 500 + 1, i * 31 % 1000 / 10.0 FROM n;
CREATE INDEX by_town ON person(town, score);
CREATE INDEX by_name ON person(name);
SELECT town.name, count(*), round(avg(score), 3) FROM person JOIN town ON town.id = person.town
GROUP BY town.id ORDER BY 3 DESC, 1 LIMIT 10;
BEGIN;
DELETE FROM person WHERE id % 2;
SELECT count(*) FROM person;
ROLLBACK;
UPDATE person SET name = name || ' ' || hex(zeroblob(20)) WHERE id % 10 = 0;
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words SELECT name FROM person WHERE id < 20000;
SELECT count(*) FROM words WHERE words MATCH 'person';
SELECT sum(length(name)), count(DISTINCT name), group_concat(id) FROM (SELECT * FROM person ORDER BY name LIMIT 50);
DELETE FROM person WHERE id > 50000;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), total(score) FROM person;
