CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (1);
CREATE TABLE object (id INTEGER PRIMARY KEY, class TEXT NOT NULL, ref TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE ceiling (number INTEGER NOT NULL);
INSERT INTO ceiling VALUES (40);
INSERT INTO object VALUES (1, 'network', 'OpaqueRef:4c0dd2ad-7c1a-4f43-9b0e-2ad1f8d3c0a1', 3, '{"uuid":"8a3f4f0e-6a51-4b43-9a0a-b6fdc1d26a01","name_label":"storage","name_description":"","MTU":1500,"other_config":{},"bridge":"xenbr1","tags":[],"a_field_that_is_no_more":[1,{"x":null}]}');
INSERT INTO object VALUES (4, 'network', 'OpaqueRef:5f0c5a6b-31a6-4a5c-8f0b-0a4f8c6ce8b2', 9, '{"uuid":"1d2c4a7e-9c57-4d3e-8a55-4f2f1c3b7e02","name_label":"internal","MTU":9000,"bridge":"xapi0"}');
INSERT INTO object VALUES (5, 'VIF', 'OpaqueRef:9b7c4e10-2d57-43b0-b6a1-6de6e0f1a2c3', 12, '{"uuid":"c1b0a9f8-7e6d-4c5b-8a49-382716f5e403","device":"0","network":"OpaqueRef:5f0c5a6b-31a6-4a5c-8f0b-0a4f8c6ce8b2","VM":"OpaqueRef:NULL","MAC":"02:00:00:00:00:01","MTU":9000,"other_config":{"ethtool-gso":"off"},"currently_attached":false}');
INSERT INTO object VALUES (6, 'no_such_class', 'OpaqueRef:0d9e8f70-1a2b-4c3d-9e4f-5a6b7c8d9e04', 20, '{"uuid":"x"}');
