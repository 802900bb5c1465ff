-- Where a change goes. The default is what a process of the version before means, which may still run.
alter table links.outbox add column topic text not null default 'link-changes';
