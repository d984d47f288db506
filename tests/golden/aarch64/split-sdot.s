ldr w26, [x19]
ldur w25, [x19, #3]
ldur w24, [x19, #6]
ldur w23, [x19, #9]
ldr w22, [x19, #12]
ldur w21, [x19, #15]
sub x15, x15, #1
add x20, x13, #64
add x19, x19, #4
eor w0, w26, #2155905152
dup v14.4s, w0
ldr q10, [x13]
sdot v29.4s, v29.4s, v14.4s, v10.4s
ldr q11, [x13, #16]
sdot v28.4s, v28.4s, v14.4s, v11.4s
ldr q12, [x13, #32]
sdot v22.4s, v22.4s, v14.4s, v12.4s
ldr q13, [x13, #48]
sdot v21.4s, v21.4s, v14.4s, v13.4s
eor w0, w25, #2155905152
dup v14.4s, w0
sdot v23.4s, v23.4s, v14.4s, v10.4s
sdot v20.4s, v20.4s, v14.4s, v11.4s
sdot v19.4s, v19.4s, v14.4s, v12.4s
sdot v18.4s, v18.4s, v14.4s, v13.4s
eor w0, w24, #2155905152
dup v14.4s, w0
sdot v17.4s, v17.4s, v14.4s, v10.4s
sdot v16.4s, v16.4s, v14.4s, v11.4s
sdot v7.4s, v7.4s, v14.4s, v12.4s
sdot v6.4s, v6.4s, v14.4s, v13.4s
eor w0, w23, #2155905152
dup v14.4s, w0
sdot v5.4s, v5.4s, v14.4s, v10.4s
sdot v4.4s, v4.4s, v14.4s, v11.4s
sdot v3.4s, v3.4s, v14.4s, v12.4s
sdot v2.4s, v2.4s, v14.4s, v13.4s
eor w0, w22, #2155905152
dup v14.4s, w0
sdot v1.4s, v1.4s, v14.4s, v10.4s
sdot v0.4s, v0.4s, v14.4s, v11.4s
sdot v31.4s, v31.4s, v14.4s, v12.4s
sdot v30.4s, v30.4s, v14.4s, v13.4s
eor w0, w21, #2155905152
dup v14.4s, w0
sdot v27.4s, v27.4s, v14.4s, v10.4s
sdot v26.4s, v26.4s, v14.4s, v11.4s
sdot v25.4s, v25.4s, v14.4s, v12.4s
sdot v24.4s, v24.4s, v14.4s, v13.4s
cbnz x15, label30 ; b label31
