ldr w0, [x1]
ldur w2, [x1, #3]
ldur w3, [x1, #6]
ldur w4, [x1, #9]
ldr w5, [x1, #12]
ldur w6, [x1, #15]
sub x7, x7, #1
add x8, x9, #64
add x1, x1, #4
eor w0, w0, #2155905152
dup v0.4s, w0
ldr q1, [x9]
sdot v2.4s, v2.4s, v0.4s, v1.4s
ldr q3, [x9, #16]
sdot v4.4s, v4.4s, v0.4s, v3.4s
ldr q5, [x9, #32]
sdot v6.4s, v6.4s, v0.4s, v5.4s
ldr q7, [x9, #48]
sdot v8.4s, v8.4s, v0.4s, v7.4s
eor w2, w2, #2155905152
dup v0.4s, w2
sdot v9.4s, v9.4s, v0.4s, v1.4s
sdot v10.4s, v10.4s, v0.4s, v3.4s
sdot v11.4s, v11.4s, v0.4s, v5.4s
sdot v12.4s, v12.4s, v0.4s, v7.4s
eor w3, w3, #2155905152
dup v0.4s, w3
sdot v13.4s, v13.4s, v0.4s, v1.4s
sdot v14.4s, v14.4s, v0.4s, v3.4s
sdot v15.4s, v15.4s, v0.4s, v5.4s
sdot v16.4s, v16.4s, v0.4s, v7.4s
eor w3, w4, #2155905152
dup v0.4s, w3
sdot v17.4s, v17.4s, v0.4s, v1.4s
sdot v18.4s, v18.4s, v0.4s, v3.4s
sdot v19.4s, v19.4s, v0.4s, v5.4s
sdot v20.4s, v20.4s, v0.4s, v7.4s
eor w3, w5, #2155905152
dup v0.4s, w3
sdot v21.4s, v21.4s, v0.4s, v1.4s
sdot v22.4s, v22.4s, v0.4s, v3.4s
sdot v23.4s, v23.4s, v0.4s, v5.4s
sdot v24.4s, v24.4s, v0.4s, v7.4s
eor w3, w6, #2155905152
dup v0.4s, w3
sdot v25.4s, v25.4s, v0.4s, v1.4s
sdot v26.4s, v26.4s, v0.4s, v3.4s
sdot v27.4s, v27.4s, v0.4s, v5.4s
sdot v28.4s, v28.4s, v0.4s, v7.4s
cbnz x7, label29 ; b label30
