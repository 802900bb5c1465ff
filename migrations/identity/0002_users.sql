-- People who sign in.

create table identity.users (
    id uuid primary key
);
